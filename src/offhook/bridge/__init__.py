"""The provider boundary: realtime AI behind one connection type. A provider does not know telephones."""
