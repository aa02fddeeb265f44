"""The leaderboards as a static site: pages that load nothing from elsewhere."""
