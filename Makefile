# deckle demo and make test are all a newcomer needs; see README.md.
GO ?= go
DECKLE_CACHE ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/deckle/services
export DECKLE_CACHE
LINT_VERSION := v2.15.0
# ./... stays in the module of the folder it is given in; go.work has two.
MODULES := ./... ./integration/...
LINT := $(DECKLE_CACHE)/golangci-lint-$(LINT_VERSION)
VULN_VERSION := v1.9.0

.PHONY: build equal release demo test unit engine integration race lint rooms vuln licences fetch up down sim sim-bugs timers log-memory \
	year \
	sealed failpoints torture torture-ci torture-bug fuzz malformed restored upgrade kerberos rights world json json-spark checksum-spark catalog-spark readers \
	spark-beside foreign-spark \
	bench bench-full bench-ci bench-at-rest browser attacks profile clean

# The binary as it is meant to be shipped: ./deckle, static, stripped, without paths of this machine, with the version
# of the file VERSION (or: make build VERSION=1.2.3) and, inside a Git repository, its commit. OUT names another place.
VERSION ?= $(shell cat VERSION)
OUT ?= deckle
BUILDFLAGS ?=
build:
	CGO_ENABLED=0 GOWORK=off $(GO) build -trimpath $(BUILDFLAGS) -ldflags '-s -w -X deckle.stamped=$(VERSION)' \
		-o $(OUT) ./cmd/deckle

# Two builds from nothing, in two folders of different depth, give the same bytes; prints their SHA-256. go version -m of
# the binary lists its modules with their hashes.
equal:
	dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	for to in "$$dir/a" "$$dir/another/place"; do \
		mkdir -p "$$to/source" && tar -c --exclude=./.git --exclude=./.local --exclude=./deckle-demo . | tar -x -C "$$to/source" && \
		GOCACHE=$$to/cache $(MAKE) -s -C "$$to/source" build BUILDFLAGS=-buildvcs=false OUT="$$to/deckle" || exit 1; \
	done && \
	sha256sum "$$dir/a/deckle" "$$dir/another/place/deckle" && cmp "$$dir/a/deckle" "$$dir/another/place/deckle"

# What is installed, in the folder DIST: for amd64 and arm64 of Linux a tar, a deb, an rpm and an SBOM, and the sums of
# all; then what can be tested of them on this machine. The tools are fetched the first time, at these versions: later
# ones of nfpm need modules that the module proxy does not give.
DIST ?= dist
ARCHES ?= amd64 arm64
NFPM_VERSION := v2.45.2
SBOM_VERSION := v1.10.0
NFPM := $(DECKLE_CACHE)/nfpm-$(NFPM_VERSION)
SBOM := $(DECKLE_CACHE)/cyclonedx-gomod-$(SBOM_VERSION)
release: $(NFPM) $(SBOM)
	rm -rf $(DIST) && mkdir -p $(DIST)/build
	set -e; at=$$(git log -1 --format=%ct 2>/dev/null || echo 0); export SOURCE_DATE_EPOCH=$$at; \
	for arch in $(ARCHES); do \
		name=deckle_$(VERSION)_linux_$$arch; folder=$(DIST)/build/$$name; mkdir $$folder; \
		GOOS=linux GOARCH=$$arch $(MAKE) -s build OUT=$$folder/deckle; \
		cp -R LICENSE NOTICE CHANGELOG.md deckle.example.yaml docs/deckle.schema.json docs/configuration.md \
			docs/operations.md deploy/systemd deploy/rights deploy/prometheus deploy/grafana $$folder; \
		tar --sort=name --mtime=@$$at --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -C $(DIST)/build -c $$name | \
			gzip -9n >$(DIST)/$$name.tar.gz; \
		for kind in deb rpm; do \
			ARCH=$$arch VERSION=$(VERSION) BINARY=$$folder/deckle MTIME=$$(date -u -d @$$at +%Y-%m-%dT%H:%M:%SZ) \
				$(NFPM) package -f deploy/package/nfpm.yaml -p $$kind -t $(DIST)/$$name.$$kind; \
		done; \
		$(SBOM) bin -json -noserial -output $(DIST)/$$name.cdx.json $$folder/deckle; \
	done
	rm -rf $(DIST)/build
	cd $(DIST) && sha256sum * >SHA256SUMS
	DECKLE_TEST_RELEASE=$(abspath $(DIST)) $(GO) test -count=1 ./integration/release

$(NFPM):
	mkdir -p $(DECKLE_CACHE)
	GOBIN=$(DECKLE_CACHE)/release GOWORK=off GOFLAGS=-mod=mod $(GO) install \
		github.com/goreleaser/nfpm/v2/cmd/nfpm@$(NFPM_VERSION)
	mv $(DECKLE_CACHE)/release/nfpm $@

$(SBOM):
	mkdir -p $(DECKLE_CACHE)
	GOBIN=$(DECKLE_CACHE)/release GOWORK=off GOFLAGS=-mod=mod $(GO) install \
		github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$(SBOM_VERSION)
	mv $(DECKLE_CACHE)/release/cyclonedx-gomod $@

# deckle demo, with the names of packages while they are compiled (the first time takes minutes). DEMOFLAGS='--for 30s'.
DEMOFLAGS ?=
demo:
	mkdir -p .local
	$(GO) build -v -o .local/deckle-demo ./cmd/deckle
	.local/deckle-demo demo $(DEMOFLAGS)

# Fetches the real services into the cache folder, then runs all tests, those against real services included.
test: unit engine integration

# Everything that needs no outside service.
unit:
	DECKLE_REQUIRE_SERVICES= $(GO) test -timeout 30m ./... ./integration/dashboards ./integration/failpoint/... \
		./integration/licences ./integration/proxy ./integration/rooms ./integration/vuln ./integration/torture \
		./integration/malformed ./integration/bench/... ./integration/year
	cd state/zstd && GOWORK=off $(GO) test . # a module of its own: see there

# The tests against a ClickHouse engine and Python's Delta readers alone; DECKLE_TEST_CLICKHOUSE=host:port names a real
# server to use instead, DECKLE_TEST_PYTHON an interpreter that has deltalake and duckdb.
engine:
	$(GO) run ./integration/local engine -- sh -c '$(GO) test -count=1 ./sinks/clickhouse ./sim/verify \
		./integration/chfront && $(GO) test -count=1 ./sinks/delta -run ^TestOther'

# The tests against real services; a service that cannot be had on this machine is skipped with a line that says so, or
# fails with DECKLE_REQUIRE_SERVICES=1.
integration:
	$(GO) test -count=1 -timeout 30m -p 1 -v ./integration ./integration/readers ./integration/foreign

# The packages with goroutines, under the race detector. Whole clusters in a bubble (sim/cluster) take it too long.
race:
	DECKLE_REQUIRE_SERVICES= $(GO) test -race -short -timeout 40m ./cipherfs/... ./event/... ./node/... ./raftstore/... \
		./schema/... ./sim ./sim/demo/... ./sim/history/... ./sim/testworld/... ./sim/verify/... ./sinks/... \
		./state/... ./trust/... ./wal/...

lint: $(LINT)
	$(LINT) run $(MODULES)

# The structure of the tree: packages by floor, arrows between them, the largest circle of files in each. Fails where a
# circle has more than six files; state is one machine, of nine (docs/design.md §8).
ROOMSFLAGS ?= -most 6 -allow state=9
rooms:
	$(GO) run ./integration/rooms $(ROOMSFLAGS)

# Known vulnerabilities that the code reaches, by govulncheck. VULNDB names a database (a folder, a zip file of one, or
# an address) instead of Go's. It fails where there is none; VULNFLAGS=-skip says so and succeeds.
VULNFLAGS ?=
vuln:
	$(GO) run ./integration/vuln -tool $(DECKLE_CACHE)/govulncheck-$(VULN_VERSION) -version $(VULN_VERSION) \
		$(VULNFLAGS) . integration

# Writes NOTICE: the licences of what is compiled in, with their texts. Fails where one is not allowed. LICENCEFLAGS=-check
# writes nothing, and fails if NOTICE is not what it would write.
LICENCEFLAGS ?=
licences:
	$(GO) run ./integration/licences $(LICENCEFLAGS)

$(LINT):
	mkdir -p $(DECKLE_CACHE)
	GOBIN=$(DECKLE_CACHE)/lint GOWORK=off GOFLAGS=-mod=mod $(GO) install \
		github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv $(DECKLE_CACHE)/lint/golangci-lint $@

# Only fetches the services.
fetch:
	$(GO) run ./integration/local fetch

# Real services, three nodes and the simulator on loopback ports; down ends exactly what up started.
up:
	$(GO) run ./integration/local up

down:
	$(GO) run ./integration/local down

# The whole cluster under seeded faults and virtual time: SEEDS seeds from FIRST on; a failure prints its history.
SEEDS ?= 200
FIRST ?= 1
sim:
	mkdir -p .local
	$(GO) test -count=1 -timeout 60m ./sim/cluster -run '^TestSim$$' -seeds $(SEEDS) -first $(FIRST) \
		-out $(CURDIR)/.local/sim.json

# Bugs planted in the sources, each of which the simulator must catch within BUGSEEDS seeds; the first that catches it
# is enough. BUGFLAGS=-bugkeep runs all of them and counts; BUGFLAGS=-bugoff plants nothing, and nothing may be caught.
BUGSEEDS ?= 20
BUGFLAGS ?=
sim-bugs:
	$(GO) run ./integration/failpoint -o .local/failpoints
	$(GO) test -count=1 -timeout 60m -v -tags gofail -overlay .local/failpoints/overlay.json ./sim/cluster \
		-run '^TestBugs$$' -bugseeds $(BUGSEEDS) $(BUGFLAGS)
	$(GO) test -count=1 -v -tags gofail -overlay .local/failpoints/overlay.json ./raftstore ./sinks/delta/vacuum \
		./sinks/delta ./sinks/delta/deltalog -run '^TestBugs$$'

# The crash and damage tests over encryption at rest.
sealed:
	$(GO) test -count=1 ./wal ./raftstore -cipher
	$(GO) test -count=1 ./state -run 'TestBitFlips|TestMissing|TestTableOfAnotherSize|TestSnapshotOfDamage|TestReplicasAgree|TestRestore' -cipher

# A million open sessions that all come due at once; the ordinary tests have fewer.
TIMERS ?= 1000000
timers:
	$(GO) test -count=1 -timeout 20m -v ./state -run '^TestMillionTimers$$' -timers $(TIMERS)

# The largest resident set of processes that open a Delta table of FILES files, and make a checkpoint of it.
FILES ?= 1000000
log-memory:
	$(GO) test -count=1 -timeout 20m -v ./sinks/delta/deltalog -run '^TestLogMemory$$' -memory-files $(FILES)

# Months of the Delta tables in compressed time: DAYS days with a commit of each table EVERY interval. KEEP is the
# retention of the log and of removed files (0s: the defaults). delta-rs and DuckDB read the tables at the end. A day at
# 10 s takes about a minute of CPU, one at 10m three seconds. YEARFLAGS='-most 40m' ends it earlier, -scale, -folder.
DAYS ?= 365
EVERY ?= 10s
KEEP ?= 0s
YEARFLAGS ?=
year:
	$(GO) test -count=1 -timeout 0 -v ./integration/year -run '^TestYear$$' -readers -days $(DAYS) -every $(EVERY) \
		-keep $(KEEP) $(YEARFLAGS)

# A build overlay with the failpoints of the sources switched on (they are comments otherwise); prints its path and
# their names. Then: go build -overlay .local/failpoints/overlay.json ./cmd/deckle, or go test -overlay …
failpoints:
	$(GO) run ./integration/failpoint -o .local/failpoints -list

# Three real nodes and real services under SIGKILL, SIGSTOP, failpoints, bad links and restarts, while readers watch;
# writes torture.json. SEED repeats a plan; 0 draws one.
KILLS ?= 20
# on, off or drawn (by the seed): revisions hide rows by deletion vectors.
VECTORS ?= drawn
SEED ?= 0
torture:
	$(GO) run ./integration/torture -kills $(KILLS) -seed $(SEED) -vectors $(VECTORS)

# The short form: at least 5 kills besides those at each failpoint, some of the bad links, and half of the events, since
# comparing them with the truth takes longer than the rounds.
torture-ci:
	$(GO) run ./integration/torture -kills 5 -short -rate 1000 -seed $(SEED)

# Bugs planted in the real binary, each of which a short torture must find.
torture-bug:
	@for bug in bugDeltaNoTxn bugClickHouseLedgerFirst bugClickHouseTotalsFirst; do \
		$(GO) run ./integration/torture -bug $$bug -must-fail -seed $(SEED) -out .local/torture-$$bug.json || exit 1; \
	done

# Three nodes over three real brokers with replication, which are killed, frozen, trimmed and more, while Kafka's own
# client, librdkafka and franz-go produce with every codec; then one over a broker with ZooKeeper. WORLD picks a test.
# The first time fetches librdkafka.
WORLD ?= .
world:
	$(GO) test -count=1 -timeout 60m -v ./integration/world -world -run '$(WORLD)'

# Each fuzz target for FUZZTIME, or for as many executions as FUZZEXECS says (200000x). FUZZ picks targets by a part of
# their package or name. An input that reaches new code is not minimised at length: where goroutines take part that
# never ends.
FUZZTIME ?= 30s
FUZZEXECS ?= $(FUZZTIME)
FUZZ ?= .
fuzz:
	@for p in $$($(GO) list $(MODULES)); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep ^Fuzz); do \
			echo "$$p $$f" | grep -q -e '$(FUZZ)' || continue; \
			echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZEXECS) -fuzzminimizetime 20x $$p || exit 1; \
		done; \
	done

# RECORDS records that cannot be used, through a cluster of three; the ordinary tests send 30,000.
RECORDS ?= 1000000
malformed:
	$(GO) test -count=1 -timeout 60m -v ./integration/malformed -malformed $(RECORDS)

# A real broker whose log is replaced by an older copy, as by a restore from a backup, while a node reads from it.
restored:
	$(GO) test -count=1 -timeout 15m -v ./integration/restored

# A real broker that takes Kerberos' tickets alone, and a real KDC (Debian: krb5-kdc, krb5-admin-server, faketime).
kerberos:
	$(GO) test -count=1 -timeout 15m -v ./integration/kerberos

# A folder and tables that a binary of level 2 has made, taken over by this one. Those of v0.1.0 are in the ordinary
# tests.
upgrade:
	$(GO) test -count=1 -timeout 15m -v ./integration -run '^TestUpgradeLevel2$$' -upgrade-level2

# A node over a real broker and a real store that give it the rights of deploy/rights alone, and without each of them.
rights:
	$(GO) test -count=1 -timeout 15m -v ./integration/rights

# All the JSON texts that leave Deckle, read by Python, DuckDB and ClickHouse. The ordinary tests have a third of them
# read by ClickHouse.
json:
	DECKLE_TEST_JSON=all $(GO) test -count=1 -timeout 20m -v ./integration -run '^TestJSONReaders$$'

# The same texts read by Spark's from_json. Spark is fetched the first time (1 GB).
json-spark:
	DECKLE_TEST_SPARK=1 $(GO) test -count=1 -timeout 20m -v ./integration -run '^TestJSONReaders$$'

# Version checksums of Delta tables, checked by Spark, and Spark's own commit behind them. Takes about five minutes.
checksum-spark:
	DECKLE_TEST_SPARK=1 $(GO) test -count=1 -timeout 20m -v ./integration -run '^TestSparkTakesChecksums$$'

# The Delta tables are registered in Spark's own catalog and in a Hive metastore, and read by name. Spark is fetched the
# first time (1 GB). Takes about three minutes.
catalog-spark:
	DECKLE_TEST_SPARK=1 $(GO) test -count=1 -timeout 20m -v ./integration -run '^TestSparkRegisters$$'

# Every version of tables of the real writer, after all that happens to them, read by Spark 3.5 and 4, too. Both are
# fetched the first time (2 GB). The other clients are in make integration.
readers:
	DECKLE_TEST_SPARK=1 $(GO) test -count=1 -timeout 60m -v ./integration/readers

# Spark changes a Delta table between what Deckle writes. SPARK names a folder with another Spark than the one that is
# fetched (jars, python/bin/python): what needs Spark 4 is tried with one only. Takes about a minute.
spark-beside:
	DECKLE_TEST_SPARK=1 DECKLE_TEST_SPARK_FOLDER=$(SPARK) $(GO) test -count=1 -timeout 20m -v ./integration \
		-run '^TestSparkBesideDeckle$$'

# Spark 3.5 and 4 change the table of sessions beside a node that runs. Both are fetched the first time (2 GB). delta-rs
# does the same in make integration.
foreign-spark:
	DECKLE_TEST_SPARK=1 $(GO) test -count=1 -timeout 30m -v ./integration/foreign -run '^TestSpark$$'

# Deckle beside a tuned Spark job over a backlog of EVENTS records, in turns; writes bench.json. Spark and Delta are
# fetched the first time (1 GB). BENCHFLAGS are flags of the program: -readers 0.3 -odd 0.1 -duplicates 0.02 for data
# that only compare the tables, -spark-warm 1 for a small run; -only deckle,deckle_guarded,deckle3,deckle3_guarded shows
# what TLS between the nodes and sealed folders cost.
EVENTS ?= 600000
BENCHRUNS ?= 3
BENCHFLAGS ?=
bench:
	$(GO) run ./integration/bench -events $(EVENTS) -runs $(BENCHRUNS) $(BENCHFLAGS)

# Latency, growth, soak, recovery and outages of Deckle alone, and one session of many large events beside others, about
# an hour; writes bench-full.json and prints tables. PARTS picks some
# (sessions,soak,latency,commits,recovery,outage,late,big); FULLFLAGS are flags of the program (-rate 10000,
# -commit-wait 550ms).
PARTS ?=
FULLFLAGS ?=
bench-full:
	$(GO) run ./integration/bench -full -only '$(PARTS)' $(FULLFLAGS)

# The benchmarks of each stage on a recorded commit and on this tree, in turns; fails on a significant loss of more than
# 25 % that is there a second time. REGRESSFLAGS=-if-any: a tree without that commit is no failure.
REGRESSFLAGS ?=
bench-ci:
	$(GO) run ./integration/bench/regress $(REGRESSFLAGS)

# What encryption at rest costs a node: CPU of the log and the state with and without, in turns, on a quiet machine.
TURNS ?= 40
bench-at-rest:
	$(GO) test -run '^$$' -bench AtRest -benchtime $(TURNS)x -timeout 60m ./integration/bench/stages -at-rest

# The page in a real browser, with scripts in every text that it shows.
BROWSER ?= chromium
browser:
	DECKLE_BROWSER=$(BROWSER) $(GO) test -count=1 -run TestBrowser -v ./node/web

# Idle and slow clients at the HTTP port of the real binary, which may open 400 files.
attacks:
	DECKLE_ATTACKS=1 $(GO) test -count=1 -timeout 10m -run TestHTTPAttacks -v ./integration

# CPU and heap profiles of a node over the same backlog, in .local/profile.
profile:
	mkdir -p .local
	$(GO) run ./integration/bench -events $(EVENTS) -runs 1 -only deckle,deckle_raw \
		-profile .local/profile -out .local/profile.json

clean:
	rm -rf deckle deckle-demo .local dist
