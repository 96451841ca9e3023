package deckle

import _ "embed"

// ConfigSchema is JSON Schema of deckle.yaml, for editors: docs/deckle.schema.json. A test of package node/config keeps
// it what the code says.
//
//go:embed docs/deckle.schema.json
var ConfigSchema string
