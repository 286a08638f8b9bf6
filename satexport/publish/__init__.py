"""A folder for the Hugging Face Hub: graphs, labels, golden chunks, reports and a model card."""
