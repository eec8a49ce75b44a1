"""What the services of the CRM share."""
