"""What alignment did to values: small sets of probes, written for this project, before and after."""
