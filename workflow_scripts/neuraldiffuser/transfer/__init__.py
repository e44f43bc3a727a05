"""Brings objects, whole or in ranges, from buckets, web servers, model hubs and folders."""
