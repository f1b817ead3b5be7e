"""Grafana's dashboards as code; the chart ships what `text` makes of them."""
