"""A game server that knows the WebSocket API only from its description, and behaves as that says of the reference: it shares no code with ours.

    reference_server.py --sleep 0.2 --lobby-timeout 2

A session of a lobby looks at its game every SERVER_SLEEP, and announces the turn each time until the action comes. Nothing is refused that
the reference does not refuse; what a correct client never does is carried out and noted down. SIGTERM ends it: the last line that it prints
is an object of JSON that sums up.

    --late           every other notice tells how the game stood one SERVER_SLEEP ago, so that the last one of a turn comes after its action,
                     and perhaps after those of others
    --lose-answers N every Nth action is carried out and its connection is closed in place of the answer
"""

import argparse
import asyncio
import json
import random
import signal
from collections import Counter
from datetime import datetime, timezone
from uuid import uuid4

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

HEROES = 40
# What a request has, by path, in the order in which what is missing is told.
FIELDS = {
    "/api/v1/login": ["USER"],
    "/api/v1/game/find": ["USER_TOKEN", "PARTICIPANTS"],
    "/api/v1/game/lobby": ["GAME_TOKEN", "USER_TOKEN"],
    "/api/v1/game/hero": ["GAME_TOKEN", "USER_TOKEN"],
    "/api/v1/game/action": ["GAME_TOKEN", "USER_TOKEN", "ENEMY_TOKEN", "ACTION"],
}


def now():
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")


class Game:
    def __init__(self, participants, host):
        self.token = str(uuid4())
        self.participants = participants
        self.host = host
        self.status = "Waiting Lobby"
        self.opened = asyncio.get_running_loop().time()
        self.seats = 0
        # By user token: one user who sits down twice is one player.
        self.heroes = {}
        self.order = []
        self.moves = 0
        self.last = None
        # The turn, by its number of moves, that was announced last.
        self.announced = None

    def hero(self, user):
        return {"token": user, **self.heroes.get(user, {"id": None, "attack": 0, "health": 0})}

    def over(self):
        return self.status in ("Completed", "Timed Out")


class Server:
    def __init__(self, options):
        self.options = options
        self.random = random.Random(options.seed)
        self.users = {}
        self.games = {}
        self.open = {}
        self.counts = Counter(attacks=0, nobody_left=0, notices=0, repeated=0, late=0, lost_answers=0, as_one_user=0)
        self.violations = Counter()

    async def session(self, socket):
        path = socket.request.path
        if path not in FIELDS:
            self.violations[f"asked for {path}"] += 1
            return
        try:
            async for text in socket:
                await self.answer(socket, path, text)
        except ConnectionClosed:
            pass

    async def answer(self, socket, path, text):
        payload, missing = self.read(path, text)
        if missing:
            self.violations[missing] += 1
            await self.send(socket, {"PAYLOAD": {}, "STATUS": missing})
        elif path.endswith("/login"):
            await self.login(socket, payload["USER"])
        elif path.endswith("/find"):
            await self.send(socket, self.find(payload["USER_TOKEN"], payload["PARTICIPANTS"]))
        elif path.endswith("/lobby"):
            await self.lobby(socket, payload["GAME_TOKEN"], payload["USER_TOKEN"])
        elif path.endswith("/hero"):
            await self.send(socket, self.hero(payload["GAME_TOKEN"], payload["USER_TOKEN"]))
        else:
            await self.action(socket, payload)

    def read(self, path, text):
        """The payload, or what is missing."""
        frame = json.loads(text)
        fields = FIELDS[path]
        if "PAYLOAD" not in frame:
            return None, "MISSING PAYLOAD IN MESSAGE"
        payload = frame["PAYLOAD"]
        for field in fields:
            if field not in payload:
                return None, f"MISSING {field.replace('_', ' ')} IN PAYLOAD"
        for name in [*(frame.keys() - {"PAYLOAD"}), *(payload.keys() - set(fields))]:
            self.violations[f"{path}: a field {name} that is not in the table"] += 1
        return payload, None

    async def login(self, socket, name):
        if not isinstance(name, str):
            self.violations["a USER that is not text"] += 1
        if name not in self.users:
            self.users[name] = str(uuid4())
            await self.send(socket, {"PAYLOAD": {}, "STATUS": "USER CREATED"})
        await self.send(socket, {"PAYLOAD": {"USER_TOKEN": self.users[name]}})

    def find(self, user, participants):
        if user not in self.users.values():
            self.violations["a find by nobody who logged in"] += 1
        if type(participants) is not int or participants not in (2, 3):
            self.violations[f"PARTICIPANTS {participants!r}"] += 1
        game = self.open.get(participants)
        if game is None:
            game = self.open[participants] = Game(participants, user)
            self.games[game.token] = game
        taken = {hero["id"] for hero in game.heroes.values()}
        drawn = self.random.choice([hero for hero in range(HEROES) if hero not in taken])
        attack = self.random.randint(20, 60)
        game.heroes[user] = {"id": drawn, "attack": attack, "health": self.random.randint(100, 200)}
        game.seats += 1
        if game.seats == participants:
            del self.open[participants]
            game.order = sorted(game.heroes)
            game.status = "In-Progress"
        return {"PAYLOAD": {"GAME_TOKEN": game.token, "HERO_ID": drawn}, "STATUS": {"JOINED": "SUCESS"}}

    def hero(self, game, user):
        if game not in self.games:
            self.violations["a hero of no game"] += 1
            game = None
        hero = self.games[game].hero(user) if game else {"token": user, "id": None, "attack": 0, "health": 0}
        payload = {"GAME_TOKEN": game, "USER_TOKEN": user, "HERO": hero}
        return {"PAYLOAD": payload, "STATUS": {"GAME": "HERO SPEC"}}

    async def lobby(self, socket, token, user):
        game = self.games.get(token)
        if game is None or user not in game.heroes:
            self.violations["a lobby without a seat"] += 1
            return
        await self.started(socket, game)
        while not game.over():
            if socket.state is not State.OPEN:
                return
            on_turn = game.order[0] == user
            delay = self.random.choice([0, self.options.sleep]) if self.options.late else 0
            await asyncio.sleep(delay)
            if on_turn:
                await self.announce(socket, game, user)
            await asyncio.sleep(self.options.sleep - delay)
        if game.status == "Completed":
            await self.push(socket, "COMPLETE", game)
        else:
            await self.push(socket, "TIMED OUT", game, timestamp=True)

    async def started(self, socket, game):
        """Waits for the seats to fill, and tells of it."""
        while game.status == "Waiting Lobby" and socket.state is State.OPEN:
            waited = asyncio.get_running_loop().time() - game.opened
            if waited > self.options.lobby_timeout:
                del self.open[game.participants]
                game.status = "Timed Out"
            await asyncio.sleep(self.options.sleep)
        if game.status not in ("Waiting Lobby", "Timed Out"):
            heroes = {user: game.hero(user) for user in game.heroes}
            known = {"PARTICIPANTS": sorted(heroes), "PARTICIPANTS_HEROS": heroes}
            await self.push(socket, "START", game, timestamp=True, **known)

    async def announce(self, socket, game, user):
        self.counts["notices"] += 1
        if game.over() or game.order[0] != user:
            self.counts["late"] += 1
        elif game.announced == game.moves:
            self.counts["repeated"] += 1
        else:
            game.announced = game.moves
        await self.push(socket, "USER'S TURN", game)

    async def action(self, socket, payload):
        user, enemy = payload["USER_TOKEN"], payload["ENEMY_TOKEN"]
        game = self.games.get(payload["GAME_TOKEN"])
        if payload["ACTION"] != "ATTACK":
            self.violations[f"ACTION {payload['ACTION']!r}"] += 1
        if game is None or user not in game.heroes:
            # What the reference crashes on.
            self.violations["an action in another's game"] += 1
            await socket.close(1011)
            return
        self.judge(game, user, enemy)
        if enemy is None:
            self.counts["nobody_left"] += 1
            status = {"ACTION": "NA", "DETAILS": {"ENEMY_TOKEN": None, "ENEMY_STATUS": "DEAD"}}
            game.status = "Completed"
        elif enemy not in game.heroes:
            await socket.close(1011)
            return
        else:
            status = {"ACTION": "ATTACK", "DETAILS": self.attack(game, user, enemy)}
        number = self.counts["attacks"] + self.counts["nobody_left"]
        if self.options.lose_answers and number % self.options.lose_answers == 0:
            self.counts["lost_answers"] += 1
            await socket.close(1011)
            return
        payload = {"GAME_TOKEN": game.token, "USER_TOKEN": user}
        await self.send(socket, {"TIMESTAMP": now(), "PAYLOAD": payload, "STATUS": status})

    def judge(self, game, user, enemy):
        """Notes what a correct client never does."""
        if len(game.heroes) < game.participants:
            # Two clients act as one user here, and neither can know what the other does.
            self.counts["as_one_user"] += 1
            return
        if game.status != "In-Progress":
            self.violations["acted in a game that does not go on"] += 1
        elif game.order[0] != user:
            self.violations["acted twice in one turn" if game.last == user else "acted out of turn"] += 1
        living = [other for other in game.order if other != user]
        if enemy is None and living:
            self.violations["attacked nobody while others lived"] += 1
        elif enemy is not None and enemy not in living:
            what = "itself" if enemy == user else "a dead hero" if enemy in game.heroes else "a hero of another game"
            self.violations[f"attacked {what}"] += 1

    def attack(self, game, user, enemy):
        self.counts["attacks"] += 1
        damage, prior = game.heroes[user]["attack"], game.heroes[enemy]["health"]
        post = max(0, prior - damage)
        game.heroes[enemy]["health"] = post
        if user in game.order:
            game.order.remove(user)
            game.order.append(user)
        if post == 0 and enemy in game.order:
            game.order.remove(enemy)
        game.moves += 1
        game.last = user
        if len(game.order) == 1:
            game.status = "Completed"
        return {"ENEMY_TOKEN": enemy, "ENEMY_DAMAGE": damage, "ENEMY_HEALTH_PRIOR": prior, "ENEMY_HEALTH_POST": post}

    async def push(self, socket, status, game, timestamp=False, **more):
        frame = {"TIMESTAMP": now()} if timestamp else {}
        await self.send(socket, frame | {"PAYLOAD": {"GAME_TOKEN": game.token, **more}, "STATUS": {"GAME": status}})

    async def send(self, socket, frame):
        await socket.send(json.dumps(frame))

    def summary(self):
        statuses = Counter(game.status for game in self.games.values())
        completed, timed_out = statuses.pop("Completed", 0), statuses.pop("Timed Out", 0)
        return {
            "completed": completed,
            "timed_out": timed_out,
            "unfinished": sum(statuses.values()),
            **self.counts,
            "violations": self.violations,
        }


async def run(options):
    server, stopped = Server(options), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with serve(server.session, "127.0.0.1", options.port) as listener:
        print(f"Listening on ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}", flush=True)
        await stopped.wait()
    print(json.dumps(server.summary()), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0: a free one, which is printed (%(default)s)")
    parser.add_argument("--sleep", type=float, default=5, help="SERVER_SLEEP in seconds (%(default)s)")
    parser.add_argument("--lobby-timeout", type=float, default=10, help="LOBBY_TIMEOUT in seconds (%(default)s)")
    parser.add_argument("--late", action="store_true", help="see above")
    parser.add_argument("--lose-answers", type=int, default=0, metavar="N", help="see above; 0: none (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="replays the same heroes (%(default)s)")
    asyncio.run(run(parser.parse_args()))


main()
