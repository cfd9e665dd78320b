# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # Some names are the sourcing script's, some are for it.
# Sourced by the scripts beside it: Apache Kafka in KRaft mode, run from its jars. Needs $here, $dir, $host, $brokers, $kafka_port,
# $sasl, and the array proxies.

readonly kafka_version=4.3.1
readonly jars=${XDG_CACHE_HOME:-$HOME/.cache}/superhero/kafka-$kafka_version/libs
readonly download_deadline_s=600
readonly kafka_deadline_s=90

# The serial collector and the first compiler alone start a node 25 % sooner on two cores and keep it off the cores
# that the tests need. A benchmark sets KAFKA_JVM_FLAGS to get the whole compiler.
read -r -a jvm <<<"${KAFKA_JVM_FLAGS:--XX:+UseSerialGC -XX:TieredStopAtLevel=1}"

readonly quiet=-Dorg.slf4j.simpleLogger.defaultLogLevel=warn
readonly kafka_java=(java "${jvm[@]}" -Xmx512m "$quiet" -cp "$jars/*")

need_java() {
  local version
  need java "a Java runtime, 17 or newer (Debian: default-jre-headless)"
  version=$(java -version 2>&1 | sed -n '1s/.*version "\([0-9]*\).*/\1/p')
  ((${version:-0} >= 17)) || fail "java is version ${version:-unknown}, Kafka $kafka_version needs 17 or newer"
}

# Fills the cache with Kafka's jars if it is empty. The folder appears under its name only when it is complete, and a
# second caller waits for the first.
need_jars() {
  [[ ! -d $jars ]] || return 0
  need mvn "Maven (Debian: maven), to fetch Kafka's jars"
  mkdir -p "$(dirname "$jars")"
  # A subshell, so that no service inherits the lock and holds it as long as it lives.
  (
    exec {lock}>"$jars.lock"
    flock -w "$download_deadline_s" "$lock" ||
      fail "another fetch of Kafka's jars holds $jars.lock for ${download_deadline_s} s"
    [[ ! -d $jars ]] || exit 0
    say "fetching the jars of Kafka $kafka_version into $jars"
    fetched=$(mktemp -d "$jars.XXXXXX")
    trap 'rm -rf "$fetched"' EXIT
    mvn -q -B -C -Dstyle.color=never -f "$here/pom.xml" -Dkafka.version="$kafka_version" dependency:copy-dependencies \
      -DincludeScope=runtime -DoutputDirectory="$fetched" >&2 || fail "Maven could not fetch Kafka's jars"
    chmod 755 "$fetched"
    mv -T "$fetched" "$jars"
  )
}

# The two ports of a node: clients' and controllers'.
kafka_port_of() { echo $((kafka_port + 2 * ($1 - 1))); }
controller_port_of() { echo $((kafka_port + 2 * ($1 - 1) + 1)); }

# The port for the proxy before a node.
proxied_port_of() { echo $((kafka_port + 2 * brokers + $1 - 1)); }

# The port that asks for SASL.
sasl_port_of() { echo $((kafka_port + 2 * brokers + ${#proxies[@]} + $1 - 1)); }

bootstrap_servers() { addresses kafka_port_of; }
behind_proxies() { addresses proxied_port_of; }

# addresses PORT_OF: of all nodes, by the function that tells a node's port.
addresses() {
  local id list=()
  for ((id = 1; id <= brokers; id++)); do list+=("$host:$("$1" "$id")"); done
  (IFS=, && echo "${list[*]}")
}

node_properties() {
  local id=$1 other voters=()
  local proxied_listener= proxied_advertised= sasl_listener=
  [[ $sasl == no ]] || sasl_listener=,SASL://$host:$(sasl_port_of "$id")
  for ((other = 1; other <= brokers; other++)); do voters+=("$other@127.0.0.1:$(controller_port_of "$other")"); done
  if ((${#proxies[@]})); then
    proxied_listener=,PROXIED://$host:$(proxied_port_of "$id")
    proxied_advertised=,PROXIED://${proxies[id - 1]}
  fi
  cat <<PROPERTIES
process.roles=broker,controller
node.id=$id
controller.quorum.voters=$(IFS=, && echo "${voters[*]}")
listeners=PLAINTEXT://$host:$(kafka_port_of "$id"),CONTROLLER://127.0.0.1:$(controller_port_of "$id")$proxied_listener$sasl_listener
advertised.listeners=PLAINTEXT://$host:$(kafka_port_of "$id")$proxied_advertised$sasl_listener
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,SASL:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_superhero="superhero";
log.dirs=$dir/kafka-$id/data
num.partitions=4
default.replication.factor=$brokers
min.insync.replicas=$(((brokers + 1) / 2))
offsets.topic.num.partitions=4
offsets.topic.replication.factor=$brokers
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=$brokers
transaction.state.log.min.isr=$(((brokers + 1) / 2))
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=$brokers
share.coordinator.state.topic.min.isr=$(((brokers + 1) / 2))
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
PROPERTIES
}

# Each node formats its folder and then becomes the broker, all of them at the same time, in a new cluster: its id is
# 16 random bytes in base64, here with two letters for the characters that a flag could begin with or a URL would quote.
start_kafka() {
  local cluster id folder
  cluster=$(head -c 16 /dev/urandom | base64 | tr '+/' 'AB' | head -c 22)
  for ((id = 1; id <= brokers; id++)); do
    folder=$dir/kafka-$id
    mkdir -p "$folder"
    node_properties "$id" >"$folder/node.properties"
    # shellcheck disable=SC2016 # These are the inner shell's words.
    start "kafka-$id" bash -c '
      "${@:3}" kafka.tools.StorageTool format -t "$1" -c "$2" &&
        exec "${@:3}" kafka.Kafka "$2"
    ' kafka "$cluster" "$folder/node.properties" "${kafka_java[@]}"
  done
}

# start_kafka_again NAME: a node that has ended, with the data that it left.
start_kafka_again() {
  start "$1" "${kafka_java[@]}" kafka.Kafka "$dir/$1/node.properties"
}

# One Metadata request (version 1, no topics) to a node. A node answers only after the controllers have let it in, and
# the answer counts the brokers that they have let in so far; Kafka's own tools ask the same but take two seconds of
# JVM for it. The bytes are the length, API key and version, correlation id, no client id, an empty list of topics.
brokers_seen_by() {
  local answer
  {
    answer=$(
      exec {node}<>"/dev/tcp/$host/$(kafka_port_of "$1")" &&
        printf '\0\0\0\016\0\003\0\001\0\0\0\001\377\377\0\0\0\0' >&"$node" &&
        timeout 5 head -c 12 <&"$node" | od -An -tu1
    )
  } 2>/dev/null || return 0
  # The length and the correlation id stand before the number of brokers, four bytes each.
  read -r -a answer <<<"$answer"
  ((${#answer[@]} < 12)) || echo "${answer[11]}"
}

sees_all_brokers() {
  [[ $(brokers_seen_by "$1") == "$brokers" ]]
}
