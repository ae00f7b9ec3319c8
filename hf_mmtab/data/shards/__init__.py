"""Tables beyond one machine: rows prepared on an engine, written as shards, and read from them."""
