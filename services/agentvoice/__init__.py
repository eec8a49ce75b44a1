"""The AgentVoice API: contacts in the shapes of that API, and the webhook for events of other CRMs."""
