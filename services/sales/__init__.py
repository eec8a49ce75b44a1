"""Sales: products, and deals on their way through pipelines."""
