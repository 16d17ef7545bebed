"""How well a ranking agrees with tiers, and how sure that is: functions of arrays."""
