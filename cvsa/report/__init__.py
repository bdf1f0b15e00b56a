"""Records of runs, and the tables and figures drawn from them alone."""
