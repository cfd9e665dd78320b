"""A player that knows the WebSocket API only from its description: it shares no code with the server or the other bots.

    bot.py --url ws://127.0.0.1:8080 --games 3 --participants 2 --user PYTHON --seed 7

It plays whole games, one after the other, and checks every name and type of every answer. It prints one line of JSON
that sums up and exits with 0 only if every game was played to its end; otherwise the reason is on standard error.
"""

import argparse
import asyncio
import json
import random
import sys
from collections import Counter
from datetime import datetime
from uuid import UUID

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException


class Violation(Exception):
    """The server said something that the API does not allow here."""


def expect(true, what, frame):
    if not true:
        raise Violation(f"{what}: {json.dumps(frame)}")


def token(text):
    return isinstance(text, str) and str(UUID(text)) == text


def number(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def timestamp(text):
    return bool(datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f"))


def heroes(value):
    return isinstance(value, dict) and all(token(name) and matches(hero, HERO) for name, hero in value.items())


def tokens(value):
    return isinstance(value, list) and all(map(token, value))


def matches(value, shape):
    """A shape is an object of shapes with exactly these names, a predicate, or the value itself."""
    if isinstance(shape, dict):
        return (
            isinstance(value, dict)
            and value.keys() == shape.keys()
            and all(matches(value[name], shape[name]) for name in shape)
        )
    try:
        return shape(value) if callable(shape) else value == shape and type(value) is type(shape)
    except (TypeError, ValueError):
        return False


HERO = {"token": token, "id": number, "attack": number, "health": number}
CREATED = {"PAYLOAD": {}, "STATUS": "USER CREATED"}
LOGIN = {"PAYLOAD": {"USER_TOKEN": token}}
# The first `S` is missing on the wire too.
# The secret of a seat is ours; a client of the reference takes no notice of it, and neither does this one.
FOUND = {"PAYLOAD": {"GAME_TOKEN": token, "HERO_ID": number, "SEAT": token}, "STATUS": {"JOINED": "SUCESS"}}
START = {
    "TIMESTAMP": timestamp,
    "PAYLOAD": {"GAME_TOKEN": token, "PARTICIPANTS": tokens, "PARTICIPANTS_HEROS": heroes},
    "STATUS": {"GAME": "START"},
}
TURN = {"PAYLOAD": {"GAME_TOKEN": token}, "STATUS": {"GAME": "USER'S TURN"}}
COMPLETE = {"PAYLOAD": {"GAME_TOKEN": token}, "STATUS": {"GAME": "COMPLETE"}}
TIMED_OUT = {"TIMESTAMP": timestamp, "PAYLOAD": {"GAME_TOKEN": token}, "STATUS": {"GAME": "TIMED OUT"}}
HERO_SPEC = {"PAYLOAD": {"GAME_TOKEN": token, "USER_TOKEN": token, "HERO": HERO}, "STATUS": {"GAME": "HERO SPEC"}}
ATTACK = {
    "TIMESTAMP": timestamp,
    "PAYLOAD": {"GAME_TOKEN": token, "USER_TOKEN": token},
    "STATUS": {
        "ACTION": "ATTACK",
        "DETAILS": {
            "ENEMY_TOKEN": token,
            "ENEMY_DAMAGE": number,
            "ENEMY_HEALTH_PRIOR": number,
            "ENEMY_HEALTH_POST": number,
        },
    },
}
NOBODY_LEFT = ATTACK | {"STATUS": {"ACTION": "NA", "DETAILS": {"ENEMY_TOKEN": None, "ENEMY_STATUS": "DEAD"}}}


class Connection:
    """One endpoint of the API over one socket: what is sent there is answered there, in order."""

    def __init__(self, socket):
        self.socket = socket

    async def send(self, **payload):
        await self.socket.send(json.dumps({"PAYLOAD": payload}))

    async def receive(self):
        text = await self.socket.recv()
        expect(isinstance(text, str), "a binary frame", repr(text))
        try:
            return json.loads(text)
        except ValueError as error:
            raise Violation(f"not JSON ({error}): {text!r}") from error

    async def ask(self, shape, **payload):
        await self.send(**payload)
        answer = await self.receive()
        expect(matches(answer, shape), f"unexpected answer to {json.dumps(payload)}", answer)
        return answer


class Bot:
    def __init__(self, url, user, participants, seed):
        self.url = url.rstrip("/")
        self.user = user
        self.participants = participants
        self.random = random.Random(seed)
        self.token = None
        self.counts = Counter(games=0, completed=0, timed_out=0, attacks=0)

    def open(self, path):
        return connect(f"{self.url}/api/v1/{path}")

    async def play(self):
        """One game, from the login to its end."""
        self.counts["games"] += 1
        await self.login()
        async with self.open("game/find") as find:
            found = await Connection(find).ask(FOUND, USER_TOKEN=self.token, PARTICIPANTS=self.participants)
        game, hero = found["PAYLOAD"]["GAME_TOKEN"], found["PAYLOAD"]["HERO_ID"]
        async with self.open("game/lobby") as lobby:
            stream = Connection(lobby)
            await stream.send(GAME_TOKEN=game, USER_TOKEN=self.token)
            opponents = None
            while True:
                frame = await stream.receive()
                if matches(frame, START):
                    expect(opponents is None, "a second start of the game", frame)
                    opponents = self.opponents(frame, hero)
                elif matches(frame, TURN):
                    expect(opponents is not None, "a turn before the start", frame)
                    await self.attack(game, opponents)
                elif matches(frame, COMPLETE):
                    expect(opponents is not None, "an end before the start", frame)
                    self.counts["completed"] += 1
                elif matches(frame, TIMED_OUT):
                    expect(opponents is None, "a time-out after the start", frame)
                    self.counts["timed_out"] += 1
                else:
                    raise Violation(f"unexpected frame in the lobby: {json.dumps(frame)}")
                expect(frame["PAYLOAD"]["GAME_TOKEN"] == game, f"another game than {game}", frame)
                if frame["STATUS"]["GAME"] in ("COMPLETE", "TIMED OUT"):
                    return

    async def login(self):
        async with self.open("login") as socket:
            connection = Connection(socket)
            await connection.send(USER=self.user)
            answer = await connection.receive()
            if answer == CREATED:
                expect(self.token is None, f"{self.user} was created twice", answer)
                answer = await connection.receive()
        expect(matches(answer, LOGIN), "unexpected answer to the login", answer)
        given = answer["PAYLOAD"]["USER_TOKEN"]
        expect(self.token in (None, given), f"{self.user} was {self.token} before", answer)
        self.token = given

    def opponents(self, start, hero):
        """Everybody else of the game, in the order of the wire, so that a seed replays the same choices."""
        seated = start["PAYLOAD"]["PARTICIPANTS"]
        drawn = start["PAYLOAD"]["PARTICIPANTS_HEROS"]
        expect(len(set(seated)) == len(seated) == self.participants, f"not {self.participants} players", start)
        expect(self.token in seated, f"{self.token} has no seat", start)
        expect(drawn.keys() == set(seated), "not one hero for each player", start)
        expect(len({each["id"] for each in drawn.values()}) == len(seated), "a hero drawn twice", start)
        expect(all(each["token"] == player for player, each in drawn.items()), "a hero under another's token", start)
        expect(drawn[self.token]["id"] == hero, f"another hero than {hero}", start)
        return [player for player in seated if player != self.token]

    async def attack(self, game, opponents):
        """One move; each request has a connection of its own, as the reference's have."""
        living = {}
        for player in opponents:
            async with self.open("game/hero") as spec:
                answer = await Connection(spec).ask(HERO_SPEC, GAME_TOKEN=game, USER_TOKEN=player)
            payload = answer["PAYLOAD"]
            expect((payload["GAME_TOKEN"], payload["USER_TOKEN"]) == (game, player), "another's hero", answer)
            expect(payload["HERO"]["token"] == player, "a hero under another's token", answer)
            if payload["HERO"]["health"] > 0:
                living[player] = payload["HERO"]["health"]
        enemy = self.random.choice(list(living)) if living else None
        async with self.open("game/action") as action:
            record = await Connection(action).ask(
                ATTACK if enemy else NOBODY_LEFT,
                GAME_TOKEN=game,
                USER_TOKEN=self.token,
                ENEMY_TOKEN=enemy,
                ACTION="ATTACK",
            )
        expect(record["PAYLOAD"] == {"GAME_TOKEN": game, "USER_TOKEN": self.token}, "another's attack", record)
        if enemy:
            self.counts["attacks"] += 1
            details = record["STATUS"]["DETAILS"]
            left = max(0, details["ENEMY_HEALTH_PRIOR"] - details["ENEMY_DAMAGE"])
            expect(details["ENEMY_TOKEN"] == enemy, f"another enemy than {enemy}", record)
            expect(details["ENEMY_HEALTH_PRIOR"] == living[enemy], f"health was {living[enemy]}", record)
            expect(details["ENEMY_HEALTH_POST"] == left, f"health should be {left}", record)


async def run(options):
    bot = Bot(options.url, options.user, options.participants, options.seed)
    fault = None
    try:
        for _ in range(options.games):
            async with asyncio.timeout(options.timeout):
                await bot.play()
    except TimeoutError:
        fault = f"game {bot.counts['games']} did not end within {options.timeout} s"
    except (Violation, WebSocketException, OSError) as error:
        fault = f"game {bot.counts['games']}: {error}"
    print(json.dumps({"user": options.user, "seed": options.seed, **bot.counts}))
    if fault:
        print(f"bot.py: {fault}", file=sys.stderr)
    return 0 if bot.counts["completed"] == options.games else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="ws://127.0.0.1:8080", help="where the server listens (%(default)s)")
    parser.add_argument("--games", type=int, default=1, help="games to play, one after the other (%(default)s)")
    parser.add_argument("--participants", type=int, default=2, help="seats of each game (%(default)s)")
    parser.add_argument("--user", default="PYTHON", help="name to log in with (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="replays the same choices of enemies (%(default)s)")
    parser.add_argument("--timeout", type=float, default=60, help="seconds that one game may take (%(default)s)")
    sys.exit(asyncio.run(run(parser.parse_args())))


main()
