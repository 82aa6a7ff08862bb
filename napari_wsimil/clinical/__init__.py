"""Clinical records: schema, fields, rules, encoding for models, scenarios."""
