"""The CRM's commands of ``apex``, one module for each subject."""
