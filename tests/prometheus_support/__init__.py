"""A real Prometheus for tests, and the queries that the chart's dashboards ask it."""
