"""An acceptance as people read it: terminal, HTML, Markdown, JSON with a schema, JUnit XML; English and Chinese."""
