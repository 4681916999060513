"""What a run will take here, before it runs: `groundup plan`."""
