"""Clinical records: schema, fields, rules, scenarios, encoding."""
