"""Rows of histories as ids: split by time or entity, labelled, cut into windows."""
