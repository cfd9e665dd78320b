"""Other people's Kafka clients from Python, as a producer and as a member of a consumer group.

    kafka_client.py aiokafka  produce --bootstrap 127.0.0.1:9092 --topic t --count 100
    kafka_client.py confluent consume --bootstrap 127.0.0.1:9092 --topic t --group g
    kafka_client.py confluent transact --bootstrap 127.0.0.1:9092 --topic t --count 100
    kafka_client.py confluent hold --bootstrap 127.0.0.1:9092 --topic t --count 100

`produce` sends JSON values with keys and prints how many were acknowledged. `transact` sends as many in a transaction that it commits,
and once more in one that it aborts. `hold` sends them in a transaction that stays open until SIGTERM, and is aborted then. `consume` joins the group with the range
assignor and prints a JSON object a line: {"assigned": [partition, …]} after each rebalance, and {"consumed": [[partition,
offset], …]} once these offsets are committed. SIGTERM makes it leave the group and exit with 0.
"""

import argparse
import asyncio
import json
import signal
import sys

ACKNOWLEDGE_DEADLINE_S = 30
POLL_S = 0.2
SESSION_TIMEOUT_MS = 6000


def say(**what):
    print(json.dumps(what), flush=True)


def records(count):
    for number in range(count):
        yield f"key-{number % 50}".encode(), json.dumps({"number": number}).encode()


async def produce_with_aiokafka(arguments):
    from aiokafka import AIOKafkaProducer

    async with AIOKafkaProducer(bootstrap_servers=arguments.bootstrap, enable_idempotence=True) as producer:
        sent = [await producer.send(arguments.topic, value, key) for key, value in records(arguments.count)]
        await asyncio.wait_for(asyncio.gather(*sent), ACKNOWLEDGE_DEADLINE_S)
    say(acknowledged=len(sent))


async def consume_with_aiokafka(arguments):
    from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
    from aiokafka.coordinator.assignors.range import RangePartitionAssignor

    class Listener(ConsumerRebalanceListener):
        async def on_partitions_revoked(self, revoked):
            pass

        async def on_partitions_assigned(self, assigned):
            say(assigned=sorted(partition.partition for partition in assigned))

    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=arguments.bootstrap,
        group_id=arguments.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=SESSION_TIMEOUT_MS,
        heartbeat_interval_ms=500,
        partition_assignment_strategy=[RangePartitionAssignor],
    )
    consumer.subscribe([arguments.topic], listener=Listener())
    async with consumer:
        while not stopped.is_set():
            batches = await consumer.getmany(timeout_ms=int(POLL_S * 1000))
            consumed = [[record.partition, record.offset] for batch in batches.values() for record in batch]
            if consumed:
                await consumer.commit()
                say(consumed=consumed)


def produce_with_confluent(arguments):
    from confluent_kafka import Producer

    acknowledged = 0

    def delivered(error, _message):
        nonlocal acknowledged
        if error is not None:
            sys.exit(f"not delivered: {error}")
        acknowledged += 1

    producer = Producer({"bootstrap.servers": arguments.bootstrap, "enable.idempotence": True})
    for key, value in records(arguments.count):
        producer.produce(arguments.topic, value, key, on_delivery=delivered)
    left = producer.flush(ACKNOWLEDGE_DEADLINE_S)
    if left:
        sys.exit(f"{left} of {arguments.count} records were not acknowledged within {ACKNOWLEDGE_DEADLINE_S} s")
    say(acknowledged=acknowledged)


def transact_with_confluent(arguments):
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": arguments.bootstrap, "transactional.id": f"of {arguments.topic}"})
    producer.init_transactions(ACKNOWLEDGE_DEADLINE_S)
    for end in producer.commit_transaction, producer.abort_transaction:
        producer.begin_transaction()
        for key, value in records(arguments.count):
            producer.produce(arguments.topic, value, key)
        # An abort would throw away what was not sent yet.
        left = producer.flush(ACKNOWLEDGE_DEADLINE_S)
        if left:
            sys.exit(f"{left} of {arguments.count} records were not acknowledged within {ACKNOWLEDGE_DEADLINE_S} s")
        end(ACKNOWLEDGE_DEADLINE_S)
    say(acknowledged=2 * arguments.count)


def hold_with_confluent(arguments):
    from confluent_kafka import Producer

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    producer = Producer({"bootstrap.servers": arguments.bootstrap, "transactional.id": f"held of {arguments.topic}"})
    producer.init_transactions(ACKNOWLEDGE_DEADLINE_S)
    producer.begin_transaction()
    for key, value in records(arguments.count):
        producer.produce(arguments.topic, value, key)
    left = producer.flush(ACKNOWLEDGE_DEADLINE_S)
    if left:
        sys.exit(f"{left} of {arguments.count} records were not acknowledged within {ACKNOWLEDGE_DEADLINE_S} s")
    say(held=arguments.count)
    signal.sigwait([signal.SIGTERM])
    producer.abort_transaction(ACKNOWLEDGE_DEADLINE_S)


def consume_with_confluent(arguments):
    from confluent_kafka import Consumer

    stopped = False

    def stop(_signal, _frame):
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    consumer = Consumer(
        {
            "bootstrap.servers": arguments.bootstrap,
            "group.id": arguments.group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": SESSION_TIMEOUT_MS,
            "heartbeat.interval.ms": 500,
            "partition.assignment.strategy": "range",
        }
    )
    consumer.subscribe(
        [arguments.topic],
        on_assign=lambda _, assigned: say(assigned=sorted(partition.partition for partition in assigned)),
    )
    while not stopped:
        messages = consumer.consume(500, POLL_S)
        for message in messages:
            if message.error():
                sys.exit(f"consuming failed: {message.error()}")
        if messages:
            consumer.commit(asynchronous=False)
            say(consumed=[[message.partition(), message.offset()] for message in messages])
    consumer.close()


def main():
    parser = argparse.ArgumentParser(description="Other people's Kafka clients, as a producer and as a group's member")
    parser.add_argument("client", choices=["aiokafka", "confluent"])
    parser.add_argument("action", choices=["produce", "transact", "hold", "consume"])
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT")
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group", help="of consume")
    parser.add_argument("--count", type=int, default=100, help="of produce (default: 100 records)")
    arguments = parser.parse_args()
    match arguments.client, arguments.action:
        case "aiokafka", "produce":
            asyncio.run(produce_with_aiokafka(arguments))
        case "aiokafka", "consume":
            asyncio.run(consume_with_aiokafka(arguments))
        case "confluent", "produce":
            produce_with_confluent(arguments)
        case "confluent", "transact":
            transact_with_confluent(arguments)
        case "confluent", "hold":
            hold_with_confluent(arguments)
        case "aiokafka", "transact" | "hold":
            parser.error(f"{arguments.action} is for confluent")
        case "confluent", "consume":
            consume_with_confluent(arguments)


if __name__ == "__main__":
    main()
