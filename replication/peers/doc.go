// Package peers is how sites reach each other: tributary.sites.v1.Sites, from both ends.
//
//	site A: replication.Site ─► Peer ──gRPC──► Service ─► replication.Site :site B
//
// A Peer is a site as another one asks it, a Service answers for a site. Only sites that are named to a Service are
// answered, by the names that they give: who may reach the port at all is for the network to say. Events travel in the
// canonical encoding and are checked by their checksums; that they are the right ones the hash chain of their log says,
// which the store of who receives them goes through.
package peers
