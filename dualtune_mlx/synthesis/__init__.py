"""Training data from tools: values, requests in many wordings, and chains of calls."""
