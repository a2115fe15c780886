"""`lnstore rent`: what storage costs, and paying for it."""

from __future__ import annotations

import click

from lnstore.cli.agree_command import agree
from lnstore.cli.buy_command import buy
from lnstore.cli.ending_commands import leave, shrink
from lnstore.cli.pay_command import pay
from lnstore.cli.quote_command import quote
from lnstore.cli.renew_command import renew
from lnstore.cli.rent_status_command import status


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def rent() -> None:
    """Quote, buy, pay and show rent."""


rent.add_command(buy)
rent.add_command(pay)
rent.add_command(renew)
rent.add_command(status)
rent.add_command(shrink)
rent.add_command(leave)
rent.add_command(agree)
rent.add_command(quote)
