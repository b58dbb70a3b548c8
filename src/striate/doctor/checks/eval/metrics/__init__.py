"""Are the metrics that a script computes itself what their names say?"""
