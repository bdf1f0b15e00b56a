"""Files: tables, pixels of every kind, and where caches lie."""
