"""Commands that make a model of others: their mean, or what another library loads."""
