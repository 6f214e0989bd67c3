"""The embedded default: offline recognition, rule-based answers, offline voice; recognition and voice in processes."""
