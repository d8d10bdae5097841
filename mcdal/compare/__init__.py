"""Many runs under equal conditions: strategies by seeds, played side by side, continued where they stopped."""
