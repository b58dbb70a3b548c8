"""Have targets a scale that is reached, and are they none of the inputs?"""
