"""The AgentVoice API: contacts in its dialect, and the webhook of other CRMs."""
