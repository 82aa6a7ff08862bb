"""Import of tables in pure stages: infer columns, apply answers, summarize the plan."""
