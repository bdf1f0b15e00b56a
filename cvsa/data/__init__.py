"""Data: the two drawn sets (SynthBirds, SynthScenes), sets read from disk, and the ImageBank that holds
them."""
