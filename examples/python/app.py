"""An application: follows all telemetry, and after a reconnect goes on where it was.

    fieldgate key add my-app --grant 'subscribe:devices/#'          prints the key
    FIELDGATE_TOKEN=… python app.py ['devices/+/telemetry'] [ws://127.0.0.1:8080/ws]
"""
import asyncio, json, os, random, sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

topic, url = (sys.argv[1:] + ["devices/+/telemetry", "ws://127.0.0.1:8080/ws"][len(sys.argv) - 1:])[:2]
headers = {"Authorization": f"Bearer {os.environ['FIELDGATE_TOKEN']}"}
position: str | None = None         # the last one seen: keep it on disk to survive a restart


async def follow(ws) -> None:
    global position
    async for text in ws:
        frame = json.loads(text)
        if frame["type"] == "auth_response":
            since = {"after": position} if position else "all"
            await ws.send(json.dumps({"type": "subscribe", "topic": topic, "qos": 1, "since": since}))
        elif frame["type"] == "mqtt":
            print(frame["seq"], frame["topic"], json.dumps(frame["payload"]), flush=True)
            if not frame.get("retain") and not frame.get("ahead"):
                position = frame["msgid"]
            if frame.get("qos"):
                await ws.send(json.dumps({"type": "ack", "msgid": frame["msgid"]}))
        elif frame["type"] == "gap":
            position = frame["to"]
            print(f"gap: {frame['from']} to {frame['to']}: {frame['reason']}", file=sys.stderr)
        elif frame["type"] == "caught_up":
            position = frame["position"]
        elif frame["type"] == "error":
            print(f"refused: {frame['code']}: {frame['message']}", file=sys.stderr)


async def main() -> None:
    attempt = 0
    while True:
        try:
            async with connect(url, additional_headers=headers, subprotocols=["fieldgate.v1.json"], ping_interval=25) as ws:
                attempt = 0
                await follow(ws)
        except InvalidStatus as refused:
            if refused.response.status_code < 500 and refused.response.status_code != 429:
                sys.exit(f"refused: HTTP {refused.response.status_code}")
        except (OSError, InvalidHandshake, ConnectionClosed) as error:
            print(error, file=sys.stderr)
            if getattr(getattr(error, "rcvd", None), "code", 0) in (4400, 4403):
                sys.exit(1)
        await asyncio.sleep(min(30, 0.5 * 2**attempt) * random.uniform(0.5, 1))
        attempt += 1


asyncio.run(main())
