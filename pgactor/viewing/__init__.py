"""Seeing inside: `pgactor top` and `pgactor dashboard`.

figures makes of two statuses what people want to know, and warnings; watch asks for statuses; frame draws the figures
for a terminal, top keeps them there; board keeps what browsers are told, dashboard serves it, and the page.
"""
