"""The modules that several services of the CRM use."""
