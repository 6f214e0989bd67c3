"""What an agent's model is told that it is there for: the agent's own instructions, then its task. Pure."""

from __future__ import annotations

from dataclasses import replace

from offhook.model.records import Agent

TASK = """\
# This call
You have one task in this call, and do nothing else: {task}
Once it is done, or cannot be done, {then}call complete_task."""
"""What stands before it was written for any call of the agent's, perhaps."""


def instructed(agent: Agent) -> Agent:
    """The agent as its provider is given it."""
    if not agent.task.strip():
        return agent
    task = TASK.format(task=agent.task.strip(), then="say goodbye and " if agent.hangs_up_when_done else "")
    return replace(agent, instructions="\n\n".join(filter(None, (agent.instructions.strip(), task))))
