"""Predictions for any number of files, in one Parquet file: written in parts, so that a process that is killed loses
little, and computed on Ray if requested.
"""
