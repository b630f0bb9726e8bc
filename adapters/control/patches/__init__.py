"""Control nets that act inside the model instead of handing it residuals."""
