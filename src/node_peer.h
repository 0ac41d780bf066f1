/*
 * node_peer.h
 *		Is this session one that another node of a Citus cluster has opened?
 */
#ifndef TC_NODE_PEER_H
#define TC_NODE_PEER_H

extern void tc_node_peer_init(void);

/* Has another node opened this session? */
extern bool tc_node_internal(void);

/* Does it say so, true or not? */
extern bool tc_node_claims_internal(void);

#endif /* TC_NODE_PEER_H */
