"""The operator's whole judgement: what was observed and the time → what to write and do next. Pure."""
