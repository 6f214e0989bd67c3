"""Samples in, samples out, with the state in plain sight: G.711, levels, rates, mixing, voice activity, WAV."""
