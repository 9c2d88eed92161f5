"""A backend without a WebSocket: follows telemetry over server-sent events, and resumes.

    fieldgate key add my-backend --grant 'subscribe:devices/#'      prints the key
    FIELDGATE_TOKEN=… python backend.py ['devices/+/telemetry'] [http://127.0.0.1:8080]
"""
import json, os, random, sys, time, urllib.error, urllib.parse, urllib.request

topic, url = (sys.argv[1:] + ["devices/+/telemetry", "http://127.0.0.1:8080"][len(sys.argv) - 1:])[:2]
if not os.environ.get("FIELDGATE_TOKEN"):
    sys.exit("usage: FIELDGATE_TOKEN=… python backend.py [FILTER] [URL]")
position: str | None = None         # the last one handled: keep it with the data it led to


def handle(message: dict) -> None:
    print(message["seq"], message["topic"], json.dumps(message["payload"]), flush=True)


def follow() -> None:
    """Reads one stream to its end."""
    global position
    query = urllib.parse.urlencode({"topic": topic, "since": "all"})
    headers = {"Authorization": f"Bearer {os.environ['FIELDGATE_TOKEN']}"}
    if position:
        headers["Last-Event-ID"] = position
    request = urllib.request.Request(f"{url}/v1/stream?{query}", headers=headers)
    event: dict[str, str] = {}
    with urllib.request.urlopen(request, timeout=90) as stream:     # a comment comes every 30 s
        for line in stream:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field:
                event[field] = value
                continue
            kind, data = event.get("event", "message"), json.loads(event.get("data", "null"))
            if kind == "message" and data:
                handle(data)
            elif kind in ("gap", "close"):
                print(f"{kind}: {data}", file=sys.stderr)
            position = event.get("id", position)                    # behind it: it is handled
            event = {}


attempt = 0
while True:
    before = position
    try:
        follow()
    except urllib.error.HTTPError as refused:
        problem = json.loads(refused.read() or b"{}")
        if refused.code < 500 and refused.code != 429:
            sys.exit(f"refused: {problem.get('code')}: {problem.get('detail')}")
        print(problem.get("code"), file=sys.stderr)
    except (OSError, json.JSONDecodeError) as error:
        print(error, file=sys.stderr)
    attempt = 0 if position != before else attempt + 1
    time.sleep(min(30, 0.5 * 2**attempt) * random.uniform(0.5, 1))
