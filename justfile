# Kafka nodes that `just services-up` starts: 1 or 3
brokers := "1"
static_target := "x86_64-unknown-linux-musl"
# Arguments stay the words that they were, spaces and all: out="my data"
set positional-arguments

# List the recipes
default:
    @just --list

# Run the whole pipeline in one process, nothing installed: `just up players=10 workers=4`, settings in any order; `on=compose`: in containers
up *settings:
    {{ if settings =~ "(^| )on=compose( |$)" { "bin/deploy/compose up" } else { "cargo run --release -- up" } }} "$@"

# Stop what `just up on=compose` has started, in the order of flow
down:
    bin/deploy/compose down

# Run an evaluation: `just trial production|workers|dead-workers players=20`, `just trial scale players=10,100,1000`
trial *arguments:
    cargo run --release -- trial "$@"

# Check published files, and the topics that they are from: `just verify data/run-…`
verify *arguments:
    cargo run --release -- verify "$@"

# Run every test that needs nothing installed, on the embedded broker
test *arguments:
    cargo test --workspace "$@"

# Run the integration tests on an Apache Kafka and a Redis that they start themselves, and with other people's clients
test-real *arguments:
    TEST_SERVICES=real cargo test -p superhero --test integration "$@"

# Let everything go wrong under load, and check what came of it: `just chaos seed=7 minutes=3`, `just chaos help`
chaos *settings:
    cargo test --release -p superhero --test integration -- chaos "$@"

# Run every property with so many cases: `just fuzz cases=100000`
fuzz cases="10000":
    PROPTEST_CASES={{ trim_start_match(cases, "cases=") }} cargo test --profile fuzz --workspace --lib --test server

# Measure against the budgets, in release mode
bench *arguments:
    cargo bench -p superhero --bench bench -- "$@"

# Compare the static build, with either allocator, with a build for glibc: `just bench-static rounds=3`
bench-static *arguments:
    tests/bench/static "$@"

# Build the static binaries, and put them into target/static/<target>: `just build-static target=aarch64-unknown-linux-musl`
build-static target=static_target:
    bin/deploy/build-static {{ trim_start_match(target, "target=") }}

# Build the static binaries and pack them with all that a host needs: target/static/superhero-<version>-<target>.tar.gz
dist target=static_target: (build-static target)
    bin/deploy/dist {{ trim_start_match(target, "target=") }}

# Build an image for each role, and one with all of them, from the static binaries
images: build-static
    for role in server worker player build-db; do docker build --quiet --target $role --tag superhero-$role .; done
    docker build --quiet --target superhero --tag superhero .
    docker images 'superhero*'

# Format the code
fmt:
    cargo fmt --all

# Check what CI checks besides the tests: format, lints, dependencies, walls between the rooms
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    .ci/no-c
    .ci/walls

# Start Kafka and Redis: `just services-up`, `just services-up brokers=3`
services-up nodes=brokers:
    tests/services/up --brokers {{ trim_start_match(nodes, "brokers=") }}

# Stop them
services-down:
    tests/services/down
