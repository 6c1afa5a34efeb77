"""The page: collects what a visitor gives, shows what an engine says. Decodes nothing, knows no engine."""
