// Package pki makes the certificates of a cluster and says who a certificate is. It knows no configuration and no
// connection; its only state are the files of one folder.
//
//	CA      subject O=CLUSTER, CA:true, pathlen:0, keyCertSign
//	node    digitalSignature, serverAuth and clientAuth, URI deckle://CLUSTER/node/NAME, its hosts as DNS or IP
//	client  digitalSignature, clientAuth, URI deckle://CLUSTER/client/NAME
//
// All keys are ECDSA P-256 with SHA-256: Java and browsers refuse Ed25519 too often. Serial numbers are 128 random
// bits, and a certificate is valid from five minutes before it was made, since clocks differ.
//
// # Promise
//
// Names says which configured node a certificate is, by the names of the leaf alone, or why it is none. Whoever asks
// has verified the chain before. Folder never leaves a file of half its content, and never overwrites one that it was
// not asked to.
//
// # Invariants
//
//  1. Names are compared byte by byte as they stand in the certificate (DNS names without case), before anything has
//     decoded or normalized them. A wildcard fits nothing but itself, and no configured name may have one. A common
//     name counts for nothing.
//  2. A certificate that fits more than one configured node is none of them.
//  3. At every moment of a rotation, also after a crash, ca-key.pem signs for a certificate of ca.pem.
//  4. What replaces a file (force) is of its kind and of its name: neither does a key take a certificate's place, nor a
//     node's certificate that of a CA or of another node.
//
// # Rejected
//
// Name constraints in the CA: they bind the host of a URI, and half of the ends that we meet do not look at them. A
// revocation list: it must be distributed as fast as what it takes back, and who can do that can rotate the CA.
package pki
