// SPDX-License-Identifier: UNLICENSED
pragma solidity ^0.8.20;

/// Answers as Chainlink's aggregators do, with what it was told.
contract PriceFeed {
    uint8 public decimals;
    uint80 public latestRound;
    int256 private answer;
    uint256 private startedAt;
    uint256 private updatedAt;

    event AnswerUpdated(int256 indexed current, uint256 indexed roundId, uint256 updatedAt);

    /// `updated` 0: this feed keeps its heartbeat, so every reader finds it just updated.
    function set(uint8 places, int256 current, uint256 started, uint256 updated) external {
        decimals = places;
        latestRound += 1;
        answer = current;
        startedAt = started;
        updatedAt = updated;
        emit AnswerUpdated(current, latestRound, updated);
    }

    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80) {
        uint256 updated = updatedAt == 0 ? block.timestamp : updatedAt;
        return (latestRound, answer, startedAt == 0 ? updated : startedAt, updated, latestRound);
    }
}
