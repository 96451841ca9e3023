#!/bin/sh
# Gives an account the rights in Kafka that Deckle needs, and no others; by default it only prints the commands.
#
#   deploy/rights/kafka.sh --bootstrap-server BROKER [--command-config FILE] --user NAME --topic TOPIC
#       [--dlq TOPIC.dlq] [--group deckle-deckle] [--letters] [--run]
#
# NAME is the account as brokers see it: the user of SCRAM and PLAIN, the principal of Kerberos without its realm.
# KAFKA_ACLS names the command (kafka-acls.sh).
#
#   topic         Read             to read records, offsets and what the topic is
#                 DescribeConfigs  to tell of a topic that is compacted or deletes too early
#   dead letters  Write            to write them (brokers before 3.0: IdempotentWrite on the cluster, too)
#                 Create           to make the topic; needless where it exists, compacted
#                 DescribeConfigs  to tell that it is not compacted
#   group         Read             to write the offsets that tools for lag show; nothing reads them back
#
# With --letters also those of deckle dlq, by which people look at dead letters and let their records in again:
#
#   topic         Write            to write the records of letters there again
#   dead letters  Read             to read them
#   review topic  Read, Write      what was decided about them: TOPIC.dlq.review
#                 Create           to make it; needless where it exists, compacted
#                 DescribeConfigs  to be sure that it is compacted, and forgets nothing
#   transactional id  Write  of deckle/TOPIC.dlq.review: record and decision are one transaction
set -eu
acls=${KAFKA_ACLS:-kafka-acls.sh} server='' config='' user='' topic='' dlq='' group=deckle-deckle letters='' run=echo
while [ $# -gt 0 ]; do
	case $1 in
	--run) run='' && shift && continue ;;
	--letters) letters=yes && shift && continue ;;
	--bootstrap-server | --command-config | --user | --topic | --dlq | --group) ;;
	*) echo "kafka.sh: what is $1?" >&2 && exit 2 ;;
	esac
	[ $# -gt 1 ] || { echo "kafka.sh: $1 needs a value" >&2 && exit 2; }
	case $1 in
	--bootstrap-server) server=$2 ;;
	--command-config) config=$2 ;;
	--user) user=$2 ;;
	--topic) topic=$2 ;;
	--dlq) dlq=$2 ;;
	--group) group=$2 ;;
	esac
	shift 2
done
[ -n "$server" ] && [ -n "$user" ] && [ -n "$topic" ] || {
	echo "kafka.sh: needs --bootstrap-server, --user and --topic" >&2
	exit 2
}
dlq=${dlq:-$topic.dlq}
grant() {
	# shellcheck disable=SC2086
	$run $acls --bootstrap-server "$server" ${config:+--command-config "$config"} --add \
		--allow-principal "User:$user" "$@"
}
grant --operation Read --operation DescribeConfigs --topic "$topic"
grant --operation Write --operation Create --operation DescribeConfigs --topic "$dlq"
grant --operation Read --group "$group"
if [ -n "$letters" ]; then
	grant --operation Write --topic "$topic"
	grant --operation Read --topic "$dlq"
	grant --operation Read --operation Write --operation Create --operation DescribeConfigs --topic "$dlq.review"
	grant --operation Write --transactional-id "deckle/$dlq.review"
fi
