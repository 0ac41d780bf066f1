/*
 * node_move.h
 *		Moving shards while they are written.
 */
#ifndef TC_NODE_MOVE_H
#define TC_NODE_MOVE_H

extern void tc_node_move_init(void);

#endif /* TC_NODE_MOVE_H */
