"""Every bound of the devnet and what happens at it."""

from __future__ import annotations

from typing import Final

# --- World ---------------------------------------------------------------------------------------

VALIDATORS_MAX: Final = 32
"""Most validator processes; more is refused as wrong usage."""

PORTS_PER_NODE: Final = 10
"""Node i has the ports from base + 10·i."""

PORTS_USED: Final = 3
"""The first of them: for peers, RPC and metrics."""

PORTS_DEADLINE_S: Final = 3.0
"""A port that is still in use after this time is refused."""

# --- Processes -----------------------------------------------------------------------------------

RESTART_DELAY_S: Final = 2.0
"""A validator that died is started again after this time."""

START_DEADLINE_S: Final = 60.0
"""All validators answer and make a block within this time, or the start has failed."""

MESH_DEADLINE_S: Final = 5.0
"""The validators get this long to find each other, all to all, before the load starts anyway."""

STOP_DEADLINE_S: Final = 15.0
"""A validator that has not stopped by itself after this time is killed."""

NODE_LOG_BYTES_MAX: Final = 32 * 1024 * 1024
"""A node's log that is longer when the node starts becomes `.old`, and replaces the one before."""

LOG_TAIL_LINES: Final = 20
"""Lines of a failed node's log that are shown."""

LOG_TAIL_BYTES: Final = 64 * 1024
"""How much of the end of a log is read for them."""

# --- Connections to the validators ---------------------------------------------------------------

RECONNECT_DELAY_S: Final = 0.2
CONNECT_TIMEOUT_S: Final = 5.0
CALL_TIMEOUT_S: Final = 5.0

MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
"""Largest WebSocket message taken; a larger one closes the connection."""

BATCH_CALLS_MAX: Final = 50
"""Calls that wait together go out as one JSON-RPC batch of at most so many."""

CALLS_WAITING_MAX: Final = 2_000
"""Calls without an answer on one connection; beyond it the next validator is taken."""

UNANSWERED_S: Final = 1.0
"""A validator that owes an answer for longer is passed over until it gives one."""

# --- Order flow ----------------------------------------------------------------------------------

OPENING_IN_FLIGHT_MAX: Final = 32
"""Batches of the opening book that are sent and not final; the next waits."""

OPENING_DEADLINE_S: Final = 90.0
"""The opening book is final within this time, or the run has failed."""

PENDING_MAX: Final = 20_000
"""Transactions sent and not final; at the bound the flow waits until some are."""

RESEND_AFTER_S: Final = 2.0
"""A transaction without an acknowledgement for so long goes to another validator, byte for byte."""

ASK_AFTER_S: Final = 3.0
"""A transaction not known to be final for so long is asked for."""

FOLLOW_UP_INTERVAL_S: Final = 0.5
FOLLOW_UPS_MAX: Final = 200
"""Transactions followed up at a time; the others wait for the next interval."""

TICK_S: Final = 0.002
"""Events due within this time go out together."""

RECENT_MAX: Final = 10_000
"""Newest latencies kept for the live view; older ones are in the histogram alone."""

RECENT_S: Final = 10.0
"""The live view's figures are about this time."""

# --- Report --------------------------------------------------------------------------------------

ASKED_MAX: Final = 32
"""Transactions that all validators are asked about at a time, at the end."""

DRAIN_DEADLINE_S: Final = 45.0
"""After the load this long is waited until every transaction is final or provably expired: the
nonce window of 30 s, and room for idle blocks. Then what is left is asked for, one by one."""

DRAIN_STOPPED_S: Final = 10.0
"""The same after a Ctrl-C, when somebody is waiting for the prompt. All that is done after one
takes 30 s at most: this, then what is longest of the following."""

REST_STOPPED_S: Final = 3.0
"""After a Ctrl-C, movers get so long to claim what they withdrew; the next run does it, too."""

ANSWER_STOPPED_S: Final = 3.0
"""After a Ctrl-C, one of the last questions gets so long."""

SAME_HEIGHT_DEADLINE_S: Final = 40.0
"""A validator that is down or behind gets this long to reach the height to compare."""

SAME_HEIGHT_STOPPED_S: Final = 3.0
"""The same after a Ctrl-C."""

VIEW_INTERVAL_S: Final = 1.0
PLAIN_INTERVAL_S: Final = 5.0
"""Without a terminal one line says how it goes after each of these."""

# --- Settlement chain ----------------------------------------------------------------------------

CHAIN_PORT_BELOW: Final = 5
"""The chain's port is so many below the first node's."""

CHAIN_START_DEADLINE_S: Final = 30.0
"""The chain answers within this time, or the start has failed."""

CHAIN_POLL_S: Final = 0.05
"""It is asked so often whether it answers."""

DEPLOY_DEADLINE_S: Final = 60.0
"""The contracts are deployed within this time, or the start has failed."""

DEPLOY_POLL_S: Final = 0.1
DEPLOY_RESEND_S: Final = 10.0
"""What is in no block after this time is sent again."""

FOLLOWING_DEADLINE_S: Final = 20.0
"""The validators get this long to find the contract, before the load starts anyway."""

FOLLOWING_POLL_S: Final = 0.1

# --- Deposits and withdrawals --------------------------------------------------------------------

MOVER_POLL_S: Final = 0.25
"""Who moves funds asks so often whether the next step is possible."""

MOVER_RETRY_S: Final = 1.0
"""After something went wrong it begins anew after this time."""

MOVER_STEP_DEADLINE_S: Final = 60.0
"""A step that is not done after this time is told and begun anew."""

UNCLAIMED_MAX: Final = 100
"""Newest withdrawals of an account that are looked at for some that it has not claimed."""

ANSWER_DEADLINE_S: Final = 20.0
"""A question that no validator answers, or passes on to the chain, for so long has failed."""

ANSWER_RETRY_S: Final = 0.2
"""After this time the next validator is asked."""

COUNT_INTERVAL_S: Final = 1.0
"""The network is asked so often how much has gone over the settlement chain."""

BACKING_DEADLINE_S: Final = 60.0
"""At the end both sides are compared within this time, or not at all: a chain that died is started
again meanwhile."""

BACKING_STOPPED_S: Final = 15.0
"""The same after a Ctrl-C, when somebody is waiting for the prompt."""

BACKING_RETRY_S: Final = 0.5
"""What could not be compared is compared again after this time."""
