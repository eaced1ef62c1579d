"""Video: frames with their times in, faces of people over time out, as tables, clips, plots and summaries."""
