"""Jobs in processes of their own, on this machine or on the nodes of a Ray cluster."""
