"""The neutral billing model: Arrow schemas and value types, declared once, known to everyone, knowing nobody."""
